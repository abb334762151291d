// Package dag follows the links of content-addressed blocks.
package dag
