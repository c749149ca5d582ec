#!/bin/sh
# Writes state4.json, plan.json and schema.json anew with terraform 1.11.4:
# applies main.tf and step1, then plans main.tf and step2. Identifiers and
# times change each time, so run the tests with -update afterwards.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TF_CLI_CONFIG_FILE=/dev/null CHECKPOINT_DISABLE=1
cp -R "$here/config/." "$work"
cd "$work"
cp step1.tf.txt step.tf
terraform init
terraform apply -auto-approve -var password=canary-hunter2
cp terraform.tfstate "$here/state4.json"
cp step2.tf.txt step.tf
terraform plan -out plan -var password=canary-hunter2 -var step=2
terraform show -json plan >"$here/plan.json"
terraform providers schema -json >"$here/schema.json"
