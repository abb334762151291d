package config

import "reflect"

// Changes lists the settings in which two configs differ, by key.
func Changes(a, b Config) []string {
	var keys []string
	for _, s := range settings {
		if !reflect.DeepEqual(s.at(&a), s.at(&b)) {
			keys = append(keys, s.key)
		}
	}
	return keys
}
