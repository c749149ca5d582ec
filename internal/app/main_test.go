package app_test

import (
	"testing"

	"interlock/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }
