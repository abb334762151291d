package route

import (
	"context"
	"net/http/httptest"
	"testing"
)

func TestRouteReachesTheWatcher(t *testing.T) {
	r := httptest.NewRequest("GET", "/pins/x", nil)
	Serves(r, "/pins/{cid}") // nobody watches: nothing happens
	watched, template := Watch(r)
	if *template != "" {
		t.Errorf("before it is served it has the route %q", *template)
	}
	type other struct{}
	Serves(watched.WithContext(context.WithValue(watched.Context(), other{}, 1)), "/pins/{cid}")
	if *template != "/pins/{cid}" {
		t.Errorf("the route is %q", *template)
	}
}
