// Package export_leveret_routing_interceptor is the interceptor `traceparent`: a message without the header
// `traceparent` gets one with fresh numbers, so that its way can be traced from here on (W3C Trace Context).
package export_leveret_routing_interceptor

import (
	"fmt"

	wit "go.bytecodealliance.org/pkg/wit/types"
	types "wit_component/leveret_routing_interceptor"
	random "wit_component/leveret_routing_random"
	routing "wit_component/leveret_routing_types"
)

const header = "traceparent"

func Describe() types.Description {
	return types.Description{
		Version: "1.0.0",
		Interceptors: []types.InterceptorDescription{{
			Name:    "traceparent",
			Summary: "Starts a trace where a message belongs to none",
			Points:  []types.Point{types.PointPublish},
			// Not pure: the numbers are fresh for each message.
		}},
	}
}

func Open(uint32, types.Attachment) wit.Result[routing.Reads, routing.Refusal] {
	return wit.Ok[routing.Reads, routing.Refusal](routing.Reads{
		Headers: routing.MakeHeaderSelectionNamed([][]uint8{[]byte(header)}),
	})
}

func Close(uint32) {}

func Intercept(_ uint32, message routing.Message) types.Verdict {
	if len(message.Headers) > 0 {
		return types.MakeVerdictPass()
	}
	// The low bit set, so that neither number is 0, which the format does not allow.
	trace := fmt.Sprintf("00-%016x%016x-%016x-01", random.Next(), random.Next()|1, random.Next()|1)
	field := routing.Field{Name: []byte(header), Value: routing.MakeValueText(trace)}
	return types.MakeVerdictPatch([]types.Change{types.MakeChangeSetHeader(field)})
}
