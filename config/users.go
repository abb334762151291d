package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// users are names with their passwords. No error names a password, nor a name,
// which may be a part of one that was cut at the wrong place.
type users map[string]string

const jsonUsers = `{"user":"password"}`

// parseUsersFile reads a file of users: a JSON object, or one user:password a
// line, in which all behind the first colon is the password. Lines that are
// empty or begin with # are skipped.
func parseUsersFile(text string) (users, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8 text")
	}
	text = withoutBOM(text)
	if isObject(text) {
		return parseUsersObject(text)
	}
	found := users{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, rest, ok := strings.Cut(line, ","); ok && strings.Contains(rest, ":") {
			return nil, fmt.Errorf("line %d: a comma with a colon behind it could be the end of a user or a part of the password; "+
				"give each user a line, or, if the password has both, write %s", i+1, jsonUsers)
		}
		if err := found.addLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it names no user; write one user:password a line")
	}
	return found, nil
}

// parseUsersText reads users from a variable or a flag: as a file, or on one
// line, separated by commas.
func parseUsersText(text string) (users, error) {
	text = withoutBOM(text)
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return users{}, nil
	}
	if isObject(text) || strings.Contains(trimmed, "\n") {
		return parseUsersFile(text)
	}
	parts := splitList(trimmed)
	found := users{}
	for i, part := range parts {
		if n := strings.Count(part, ":"); len(parts) > 1 && n != 1 || n == 0 {
			return nil, fmt.Errorf("user %d of %d: it is not clear where the users end; passwords with a comma or a colon are given as %s, or one user a line in a file (%s_FILE)",
				i+1, len(parts), jsonUsers, Variable("http.users"))
		}
		if err := found.addLine(part); err != nil {
			return nil, fmt.Errorf("user %d: %w", i+1, err)
		}
	}
	return found, nil
}

func (u users) addLine(line string) error {
	if strings.TrimSpace(line) != line {
		return fmt.Errorf("a space at the beginning or the end; if it belongs to the password, write %s", jsonUsers)
	}
	name, password, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("no colon: write user:password")
	}
	if strings.TrimSpace(name) != name || strings.TrimSpace(password) != password {
		return fmt.Errorf("a space beside the colon; if it belongs to the password, write %s", jsonUsers)
	}
	if strings.ContainsAny(name[:min(1, len(name))], `["'`) {
		return fmt.Errorf("this looks like JSON or another format; write user:password, or the object %s", jsonUsers)
	}
	return u.add(name, password)
}

// hashed are the beginnings of what htpasswd and crypt write.
var hashed = regexp.MustCompile(`^(\$2[abxy]?\$\d\d\$|\$apr1\$|\$1\$|\$5\$|\$6\$|\$y\$|\{SHA\}|\{SSHA\})`)

func (u users) add(name, password string) error {
	_, twice := u[name]
	switch {
	case name == "" || password == "":
		return errors.New("user names and passwords must not be empty")
	case strings.Contains(name, ":"):
		return errors.New("a user's name must not hold a colon: Basic authentication ends it there")
	case strings.ContainsFunc(name+password, unicode.IsControl):
		return errors.New("a control character")
	case hashed.MatchString(password):
		return errors.New("the password is a hash, as htpasswd writes it; only passwords themselves are read")
	case twice:
		return errors.New("the same user again")
	}
	u[name] = password
	return nil
}

// parseUsersObject reads a JSON object; a user that stands twice is an error,
// which encoding/json would not tell.
func parseUsersObject(text string) (users, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	wrong := func(what string) error {
		line := 1 + strings.Count(text[:min(int(decoder.InputOffset()), len(text))], "\n")
		return fmt.Errorf("line %d: %s; the form is %s", line, what, jsonUsers)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, wrong("no JSON object")
	}
	found := users{}
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return nil, wrong("no user's name in quotes")
		}
		value, err := decoder.Token()
		password, ok := value.(string)
		if err != nil || !ok {
			return nil, wrong("a password that is no text in quotes")
		}
		if err := found.add(name, password); err != nil {
			return nil, wrong(err.Error())
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, wrong("the object does not end")
	}
	if strings.TrimSpace(text[decoder.InputOffset():]) != "" {
		return nil, wrong("something stands behind the object")
	}
	return found, nil
}

func isObject(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

// withoutBOM drops the mark that some editors put before a text.
func withoutBOM(text string) string { return strings.TrimPrefix(text, "\ufeff") }
