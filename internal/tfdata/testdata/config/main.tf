variable "password" {
  type      = string
  sensitive = true
  default   = "canary-default"
}
variable "creds" {
  type      = map(string)
  sensitive = true
  default   = { canary-alice = "canary-one", canary-bob = "canary-two" }
}
variable "step" { default = 1 }
resource "terraform_data" "kept" { input = "same" }
resource "terraform_data" "updated" {
  input = { plain = "v${var.step}", secret = "${var.password}-${var.step}", list = [1.50, "canary-${var.password}", { deep = var.password }] }
}
resource "terraform_data" "whole" { input = var.step == 1 ? var.creds : merge(var.creds, { canary-carol = "canary-three" }) }
resource "terraform_data" "list" { input = var.step == 1 ? [var.password, "b", "c"] : ["b", var.password, "d"] }
resource "terraform_data" "replaced" {
  input            = "x"
  triggers_replace = { x = [var.step == 1 ? "old" : "new"], "odd key" = sensitive("canary-trigger-${var.step}") }
}
resource "terraform_data" "literal" { input = sensitive("canary-literal") }
module "inner" {
  source = "./inner"
  token  = "canary-token-${var.step}"
  step   = var.step
}
check "works" {
  assert {
    condition     = var.step == 1
    error_message = "step is ${var.step}"
  }
}
output "plain" { value = "out ${var.step}" }
output "count" { value = 12345678901234567890 * var.step }
output "secret" {
  value     = var.step == 1 ? { canary-key = var.password } : { canary-key = "canary-changed" }
  sensitive = true
}
