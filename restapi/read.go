package restapi

import (
	"net/http"
	"strconv"

	"holdfast/api"
)

// read makes a handler's answer show what the request asks for with
// consistent=true and wait-index=N, and tells the index that it shows.
func (s *server) read(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var at api.ReadPoint
		if r.URL.RawQuery != "" {
			q := parseQuery(r)
			at.Consistent, at.Index = q.boolean("consistent", false), q.index("wait-index")
			if q.err != nil {
				s.fail(w, r, q.err)
				return
			}
		}
		index, err := s.service.ReadAt(r.Context(), at)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set(headerIndex, strconv.FormatUint(index, 10))
		handle(w, r)
	}
}
