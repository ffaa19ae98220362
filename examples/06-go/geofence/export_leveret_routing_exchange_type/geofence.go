// Package export_leveret_routing_exchange_type is the exchange type `x-geofence`: a message that carries
// the headers `latitude` and `longitude` (degrees) goes to the bindings within whose `radius-km` around
// their own `latitude` and `longitude` it lies.
package export_leveret_routing_exchange_type

import (
	"fmt"
	"math"
	"slices"

	wit "go.bytecodealliance.org/pkg/wit/types"
	types "wit_component/leveret_routing_exchange_type"
	routing "wit_component/leveret_routing_types"
)

const earthRadiusKm = 6371

type fence struct {
	id                  uint64
	latitude, longitude float64
	radiusKm            float64
}

// By the number that the host gave the exchange.
var exchanges = map[uint32][]fence{}

// These two headers and nothing else; what is not declared arrives empty.
var reads = routing.Reads{
	Headers: routing.MakeHeaderSelectionNamed([][]uint8{[]byte("latitude"), []byte("longitude")}),
}

func Describe() types.Description {
	degrees := func(name string) routing.ArgumentDescription {
		return routing.ArgumentDescription{
			Name: name, Kind: routing.ArgumentKindNumber, Required: true, Summary: "Of the middle, in degrees",
		}
	}
	radius := routing.ArgumentDescription{
		Name: "radius-km", Kind: routing.ArgumentKindNumber, Required: true, Summary: "How far around the middle",
	}
	return types.Description{
		Version: "1.0.0",
		ExchangeTypes: []types.ExchangeTypeDescription{{
			Name:             "x-geofence",
			Summary:          "By distance from a place",
			BindingArguments: []routing.ArgumentDescription{degrees("latitude"), degrees("longitude"), radius},
			// The broker may remember decisions, and no binding changes what another gets.
			Pure:                true,
			IndependentBindings: true,
			Stage:               wit.None[types.Stage](),
		}},
	}
}

func Open(exchange uint32, _ types.Declaration) wit.Result[types.Opened, routing.Refusal] {
	exchanges[exchange] = nil
	return wit.Ok[types.Opened, routing.Refusal](types.Opened{
		Reads: reads, Inner: wit.None[types.InnerType](), Bindings: true,
	})
}

func Close(exchange uint32) {
	delete(exchanges, exchange)
}

func Bind(exchange uint32, bindings []routing.Binding) wit.Result[routing.Reads, routing.Refusal] {
	// All are checked before any is taken: a refusal must leave none of them behind.
	var fences []fence
	for _, binding := range bindings {
		f := fence{id: binding.Id}
		// The host has checked that they are there, and numbers.
		f.latitude, _ = number(binding.Arguments, "latitude")
		f.longitude, _ = number(binding.Arguments, "longitude")
		f.radiusKm, _ = number(binding.Arguments, "radius-km")
		if math.Abs(f.latitude) > 90 {
			why := fmt.Sprintf("%v is not between -90 and 90", f.latitude)
			refusal := routing.MakeRefusalInvalidArgument(wit.Tuple2[string, string]{F0: "latitude", F1: why})
			return wit.Err[routing.Reads](refusal)
		}
		fences = append(fences, f)
	}
	exchanges[exchange] = append(exchanges[exchange], fences...)
	return wit.Ok[routing.Reads, routing.Refusal](reads)
}

func Unbind(exchange uint32, ids []uint64) routing.Reads {
	gone := func(f fence) bool { return slices.Contains(ids, f.id) }
	exchanges[exchange] = slices.DeleteFunc(exchanges[exchange], gone)
	return reads
}

func Route(exchange uint32, message routing.Message) types.Decision {
	var to []uint64
	latitude, hasLatitude := number(message.Headers, "latitude")
	longitude, hasLongitude := number(message.Headers, "longitude")
	if hasLatitude && hasLongitude {
		for _, f := range exchanges[exchange] {
			if distanceKm(latitude, longitude, f.latitude, f.longitude) <= f.radiusKm {
				to = append(to, f.id)
			}
		}
	}
	return types.MakeDecisionDeliver(to)
}

// distanceKm is the length of the great circle's arc, by the haversine formula.
func distanceKm(latitude, longitude, otherLatitude, otherLongitude float64) float64 {
	const radian = math.Pi / 180
	north := math.Sin((otherLatitude - latitude) * radian / 2)
	east := math.Sin((otherLongitude - longitude) * radian / 2)
	h := north*north + math.Cos(latitude*radian)*math.Cos(otherLatitude*radian)*east*east
	return 2 * earthRadiusKm * math.Asin(math.Sqrt(min(1, h)))
}

func number(fields []routing.Field, name string) (float64, bool) {
	for _, field := range fields {
		if string(field.Name) != name {
			continue
		}
		switch field.Value.Tag() {
		case routing.ValueInteger:
			return float64(field.Value.Integer()), true
		case routing.ValueReal:
			return field.Value.Real(), true
		}
	}
	return 0, false
}
