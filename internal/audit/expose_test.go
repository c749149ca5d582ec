package audit

// For tests that look at rows.
var (
	Scan    = scan
	Columns = columns
)
