// Cluster-ctl speaks to a running peer over its REST API: it adds files, keeps and drops pins, and shows who holds what.
package main
