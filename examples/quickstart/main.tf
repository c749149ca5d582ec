# A small web shop, made of nothing but terraform_data: it needs no provider,
# no account and no network, and still plans, applies and prints like the real
# thing. Works with Terraform 1.4 or later and with every OpenTofu.

terraform {
  required_version = ">= 1.4.0"
}

variable "environment" {
  description = "Where the shop runs. It is part of every name."
  type        = string
  default     = "staging"

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "The environment is \"staging\" or \"production\"."
  }
}

variable "services" {
  description = "What runs, and how many copies of it."
  type = map(object({
    port     = number
    replicas = number
  }))
  default = {
    api    = { port = 8080, replicas = 3 }
    web    = { port = 8000, replicas = 2 }
    worker = { port = 9000, replicas = 1 }
  }
}

variable "database_password" {
  description = "Password of the shop's database. Set it as a sensitive variable of the workspace."
  type        = string
  default     = "change-me"
  sensitive   = true
}

locals {
  prefix = "shop-${var.environment}"
  hosts  = { for name, _ in var.services : name => "${name}.${local.prefix}.internal" }
}

resource "terraform_data" "network" {
  input = {
    name = "${local.prefix}-net"
    cidr = var.environment == "production" ? "10.20.0.0/16" : "10.10.0.0/16"
  }
}

resource "terraform_data" "database" {
  input = {
    host    = "db.${local.prefix}.internal"
    network = terraform_data.network.output.name
  }

  # A new password means a new database user.
  triggers_replace = [sha256(var.database_password)]
}

resource "terraform_data" "service" {
  for_each = var.services

  input = {
    host     = local.hosts[each.key]
    port     = each.value.port
    replicas = each.value.replicas
    network  = terraform_data.network.output.name
    database = terraform_data.database.output.host
  }
}

# Prints its progress while it runs, so that there is a live log to watch.
resource "terraform_data" "rollout" {
  triggers_replace = [for service in terraform_data.service : service.output]

  provisioner "local-exec" {
    command = <<-EOT
      for service in $SERVICES; do
        for percent in 25 50 75 100; do
          echo "$service: $percent% of the copies are healthy"
          sleep 0.1
        done
      done
      echo "rollout of $PREFIX is complete"
    EOT

    environment = {
      PREFIX   = local.prefix
      SERVICES = join(" ", keys(var.services))
    }
  }
}

output "urls" {
  description = "Where each service answers."
  value       = { for name, service in terraform_data.service : name => "http://${service.output.host}:${service.output.port}" }
}

output "replicas" {
  description = "Copies of all services together."
  value       = sum([for service in terraform_data.service : service.output.replicas])
}

output "database_url" {
  description = "How the services reach the database. Sensitive, because it holds the password."
  value       = "postgres://shop:${var.database_password}@${terraform_data.database.output.host}/shop"
  sensitive   = true
}
