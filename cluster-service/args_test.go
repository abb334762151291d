package main

import (
	"slices"
	"strings"
	"testing"
)

func TestTokenLast(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"s join holdfast1.x --dir d --private", "s join --dir d --private holdfast1.x"},
		{"s join --dir d holdfast1.x --private", "s join --dir d --private holdfast1.x"},
		{"s join - --dir d", "s join --dir d -"},
		{"s join --dir d holdfast1.x", "s join --dir d holdfast1.x"},
		{"s join hello --dir d", "s join hello --dir d"},
		{"s join", "s join"},
		{"s daemon --dir holdfast1.x --set a=b", "s daemon --dir holdfast1.x --set a=b"},
		{"s", "s"},
	} {
		in := strings.Fields(test.in)
		if got := strings.Join(tokenLast(in), " "); got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		if !slices.Equal(in, strings.Fields(test.in)) {
			t.Errorf("%s: the arguments were changed in place", test.in)
		}
	}
}
