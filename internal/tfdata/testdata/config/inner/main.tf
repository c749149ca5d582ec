variable "token" {
  sensitive = true
  default   = "canary-inner-default"
}
variable "step" {}
resource "terraform_data" "x" {
  count = 2
  input = "${var.token}-${count.index}"
}
