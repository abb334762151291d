package client

// RetryAtOnce makes repeats not wait, for tests.
func (c *Client) RetryAtOnce() { c.retry.first, c.retry.most, c.retry.attempts = 0, 0, 3 }
