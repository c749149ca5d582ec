package web

import "strings"

// Cell keeps a cell of a CSV file from being a formula of whoever opens it.
func Cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}
