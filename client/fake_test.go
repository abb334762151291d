package client_test

import (
	"iter"

	"holdfast/api"
	"holdfast/restapi/fake"
)

func yieldPins(err error, pins ...api.Pin) func(api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(api.PinFilter) iter.Seq2[api.Pin, error] { return fake.Yields(err, pins...) }
}

func yieldStatus(err error, all ...api.GlobalPinInfo) func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] { return fake.Yields(err, all...) }
}
