// Package kuborpc says which of Kubo's commands a request is, and whose it is to answer.
package kuborpc
