//go:build !race

package contract_test

const raced = false
