package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Effective is a Config with the source of each value.
type Effective struct {
	Config
	sources map[string]string // key to "file", "environment" or "flag"
}

// Load reads the file (which need not exist), then the environment, then
// flags (key to text), and checks the result. The error names every problem.
func Load(path string, environment func(string) (string, bool), flags map[string]string) (Effective, error) {
	e := Effective{Config: New(), sources: map[string]string{}}
	problems := e.readFile(path)
	for _, s := range settings {
		value, source, err := lookup(s, environment, flags)
		if field := s.at(&e.Config); err == nil && source != "" {
			if list, ok := field.(*users); ok && strings.HasSuffix(source, fileSuffix) {
				*list, err = parseUsersFile(value)
			} else {
				err = parse(value, field)
			}
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", source, err))
		} else if source != "" {
			e.sources[s.key] = source
		}
	}
	for key := range flags {
		if !known(key) {
			problems = append(problems, fmt.Errorf("unknown setting %q", key))
		}
	}
	if e.PeerName == "" {
		if name, err := os.Hostname(); err == nil {
			e.PeerName = name
		}
	}
	problems = append(problems, e.Validate()...)
	return e, errors.Join(problems...)
}

// lookup finds a setting in the flags or the environment. A variable may also
// be given as a file, NAME_FILE, for secrets.
func lookup(s setting, environment func(string) (string, bool), flags map[string]string) (value, source string, err error) {
	if value, ok := flags[s.key]; ok {
		return value, "flag " + s.key, nil
	}
	name := Variable(s.key)
	value, given := environment(name)
	path, inFile := environment(name + fileSuffix)
	switch {
	case given && inFile:
		return "", "environment " + name, fmt.Errorf("%s%s is set as well; give one of them", name, fileSuffix)
	case given:
		return value, "environment " + name, nil
	case inFile:
		source = "environment " + name + fileSuffix
		data, err := os.ReadFile(path)
		if _, ok := s.at(&Config{}).(*users); ok {
			return string(data), source, err // every byte may be meant
		}
		return strings.TrimSpace(withoutBOM(string(data))), source, err
	}
	return "", "", nil
}

// fileSuffix makes of a variable's name that of one that names a file.
const fileSuffix = "_FILE"

// Variable is the environment variable of a setting.
func Variable(key string) string {
	return "CLUSTER_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func known(key string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
}

// readFile reads service.json; a file that does not exist changes nothing.
func (e *Effective) readFile(path string) []error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []error{fmt.Errorf("read %s: %w", path, err)}
	}
	values := map[string]json.RawMessage{}
	problems := flatten(path, "", data, values)
	for _, s := range settings {
		raw, ok := values[s.key]
		if !ok {
			continue
		}
		if err := decode(raw, s.at(&e.Config)); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", path, s.key, err))
			continue
		}
		e.sources[s.key] = "file " + path
	}
	return problems
}

// flatten collects the values of nested objects by dotted keys. A key that is
// neither a setting nor the beginning of one is a problem.
func flatten(path, prefix string, data []byte, into map[string]json.RawMessage) []error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		where := path
		if prefix != "" {
			where += ": " + strings.TrimSuffix(prefix, ".")
		}
		return []error{fmt.Errorf("%s: a JSON object is expected: %w; correct the file, restore it from a backup, or write {} into it for the defaults", where, err)}
	}
	var problems []error
	for name, raw := range object {
		key := prefix + name
		switch {
		case known(key):
			into[key] = raw
		case slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") }):
			problems = append(problems, flatten(path, key+".", raw, into)...)
		default:
			problems = append(problems, fmt.Errorf("%s: unknown key %q; 'cluster-service config show' lists the known ones", path, key))
		}
	}
	return problems
}

// decode reads a JSON value; what has a text form may be a string.
func decode(raw json.RawMessage, into any) error {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		return parse(text, into)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	switch field := into.(type) {
	case *time.Duration:
		return errors.New(`a duration is a string such as "10m"`)
	case *Bytes:
		return decoder.Decode((*uint64)(field))
	case *users:
		list, err := parseUsersObject(string(raw))
		*field = list
		return err
	}
	return decoder.Decode(into)
}

// parse reads the text form of a value: lists are separated by commas, maps
// are key:value pairs.
func parse(text string, into any) error {
	var err error
	switch field := into.(type) {
	case *string:
		*field = text
	case *bool:
		*field, err = strconv.ParseBool(text)
	case *int:
		*field, err = strconv.Atoi(text)
	case *time.Duration:
		*field, err = time.ParseDuration(text)
	case *Bytes:
		var n uint64
		n, err = humanize.ParseBytes(text)
		*field = Bytes(n)
	case *[]string:
		*field = splitList(text)
	case *users:
		*field, err = parseUsersText(text)
	case *map[string]string:
		*field = map[string]string{}
		for _, pair := range splitList(text) {
			key, value, ok := strings.Cut(pair, ":")
			if !ok {
				return fmt.Errorf("%q is not key:value", pair)
			}
			(*field)[key] = value
		}
	default:
		err = fmt.Errorf("a setting of type %T cannot be read", into)
	}
	return err
}

func splitList(text string) []string {
	out := []string{}
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Line is one effective setting.
type Line struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source string `json:"source"` // default, or file, environment or flag with its name
	Help   string `json:"help"`
}

// Lines lists every setting with its value, source and meaning. Passwords are
// masked.
func (e Effective) Lines() []Line {
	var lines []Line
	for _, s := range settings {
		source := e.sources[s.key]
		if source == "" {
			source = "default"
		}
		var value any
		switch field := s.at(&e.Config).(type) {
		case *time.Duration:
			value = field.String()
		case *Bytes:
			value = humanize.IBytes(uint64(*field))
		case *users:
			shown := map[string]string{}
			for name := range *field {
				shown[name] = "(hidden)"
			}
			value = shown
		case *map[string]string:
			value = *field
		case *[]string:
			value = *field
		case *string:
			value = *field
		case *int:
			value = *field
		case *bool:
			value = *field
		}
		lines = append(lines, Line{Key: s.key, Value: value, Source: source, Help: s.help})
	}
	return lines
}

// Nest turns dotted keys into the nested objects of service.json.
func Nest(values map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		object := out
		parts := strings.Split(key, ".")
		for _, part := range parts[:len(parts)-1] {
			inner, ok := object[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				object[part] = inner
			}
			object = inner
		}
		object[parts[len(parts)-1]] = value
	}
	return out
}
