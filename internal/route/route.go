package route

import (
	"context"
	"net/http"
)

type key struct{}

// Watch returns the request to pass on, and what holds the template of its
// route once it was served; "" if none is named.
func Watch(r *http.Request) (*http.Request, *string) {
	template := new(string)
	return r.WithContext(context.WithValue(r.Context(), key{}, template)), template
}

// Serves names the route that serves a request: a constant of the code, never
// something that a client chose.
func Serves(r *http.Request, template string) {
	if at, ok := r.Context().Value(key{}).(*string); ok {
		*at = template
	}
}
