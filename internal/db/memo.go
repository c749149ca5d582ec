package db

// Memo remembers within a transaction what f found, under a key of a type of
// its caller's own, until the transaction writes. It is for what several layers
// of one operation ask, each for itself: rights, rules.
func Memo[T any](tx *Tx, key any, f func() (T, error)) (T, error) {
	if v, ok := tx.memo[key].(T); ok {
		return v, nil
	}
	v, err := f()
	if err == nil {
		if tx.memo == nil {
			tx.memo = map[any]any{}
		}
		tx.memo[key] = v
	}
	return v, err
}
