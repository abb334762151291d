// Package allocator decides which peers hold the replicas of a pin, with the reason for each.
package allocator
