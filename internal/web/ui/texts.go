package ui

import "context"

// Texts is what pages say in the words of the installation's operators, as
// plain text.
type Texts struct{ Support, Login, Footer, Error, NewUser string }

type textsKey struct{}

// WithTexts returns ctx in which pages find their operators' words through
// get.
func WithTexts(ctx context.Context, get func(context.Context) Texts) context.Context {
	return context.WithValue(ctx, textsKey{}, get)
}

// TextsOf is the words for pages that are written with ctx.
func TextsOf(ctx context.Context) Texts {
	if get, ok := ctx.Value(textsKey{}).(func(context.Context) Texts); ok && get != nil {
		return get(ctx)
	}
	return Texts{}
}

// A Way is a way to sign in besides the password.
type Way struct{ Name, Href string }
