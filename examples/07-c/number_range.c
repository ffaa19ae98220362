// An exchange type in C: `x-number-range`.
//
// The exchange's argument `header` names a header; a message goes to the bindings between whose
// arguments `from` (included) and `below` (excluded) its number lies. A message without that header, or
// with one that is no number, is unroutable.

#include "generated/exchange-type-plugin/plugin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  uint64_t id;
  double from, below;
} range_t;

typedef struct {
  plugin_list_u8_t header;
  range_t *ranges;
  size_t count;
} exchange_t;

// By the number that the host gave the exchange; numbers are small and come again.
static exchange_t *exchanges;
static size_t exchange_count;

// What does not fit into the instance's memory ends it, and the host makes a new one.
static void *must(void *allocated) {
  if (!allocated) __builtin_trap();
  return allocated;
}

static const routing_value_t *value_of(exports_exchange_type_list_field_t fields, const char *name) {
  for (size_t i = 0; i < fields.len; i++) {
    plugin_list_u8_t found = fields.ptr[i].name;
    if (found.len == strlen(name) && !memcmp(found.ptr, name, found.len)) return &fields.ptr[i].value;
  }
  return NULL;
}

static double number(const routing_value_t *value, double otherwise) {
  if (!value) return otherwise;
  switch (value->tag) {
    case ROUTING_VALUE_INTEGER: return (double)value->val.integer;
    case ROUTING_VALUE_UNSIGNED: return (double)value->val.unsigned_;
    case ROUTING_VALUE_REAL: return value->val.real;
    default: return NAN;
  }
}

static void argument(routing_argument_description_t *a, const char *name, uint8_t kind, bool required, const char *summary) {
  plugin_string_dup(&a->name, name);
  a->kind = kind;
  a->required = required;
  plugin_string_dup(&a->summary, summary);
}

// That one header and nothing else. The caller frees it, so the name is copied.
static routing_reads_t reads(const exchange_t *exchange) {
  routing_reads_t reads = {.headers.tag = ROUTING_HEADER_SELECTION_NAMED};
  plugin_list_u8_t *name = must(malloc(sizeof *name));
  name->ptr = must(malloc(exchange->header.len));
  name->len = exchange->header.len;
  memcpy(name->ptr, exchange->header.ptr, name->len);
  reads.headers.val.named.ptr = name;
  reads.headers.val.named.len = 1;
  return reads;
}

void exports_exchange_type_describe(exports_exchange_type_description_t *ret) {
  exports_exchange_type_exchange_type_description_t *type = must(calloc(1, sizeof *type));
  plugin_string_dup(&type->name, "x-number-range");
  plugin_string_dup(&type->summary, "By ranges of a number in a header");
  type->arguments.len = 1;
  type->arguments.ptr = must(calloc(1, sizeof *type->arguments.ptr));
  argument(type->arguments.ptr, "header", ROUTING_ARGUMENT_KIND_TEXT, true, "The header with the number");
  type->binding_arguments.len = 2;
  type->binding_arguments.ptr = must(calloc(2, sizeof *type->binding_arguments.ptr));
  argument(type->binding_arguments.ptr, "from", ROUTING_ARGUMENT_KIND_NUMBER, false, "The least; all if not there");
  argument(type->binding_arguments.ptr + 1, "below", ROUTING_ARGUMENT_KIND_NUMBER, false, "All below it; all if not there");
  // The broker may remember decisions, and no binding changes what another gets.
  type->pure = type->independent_bindings = true;
  plugin_string_dup(&ret->version, "1.0.0");
  ret->exchange_types.ptr = type;
  ret->exchange_types.len = 1;
}

bool exports_exchange_type_open(uint32_t id, exports_exchange_type_declaration_t *declaration, exports_exchange_type_opened_t *ret, routing_refusal_t *err) {
  // The host has checked that it is there, and a text.
  plugin_string_t header = value_of(declaration->arguments, "header")->val.text;
  if (header.len == 0) {
    err->tag = ROUTING_REFUSAL_INVALID_ARGUMENT;
    plugin_string_dup(&err->val.invalid_argument.f0, "header");
    plugin_string_dup(&err->val.invalid_argument.f1, "no header has an empty name");
    exports_exchange_type_declaration_free(declaration);
    return false;
  }
  if (id >= exchange_count) {
    exchanges = must(realloc(exchanges, (id + 1) * sizeof *exchanges));
    memset(exchanges + exchange_count, 0, (id + 1 - exchange_count) * sizeof *exchanges);
    exchange_count = id + 1;
  }
  exchange_t *exchange = &exchanges[id];
  exchange->header.ptr = memcpy(must(malloc(header.len)), header.ptr, header.len);
  exchange->header.len = header.len;
  *ret = (exports_exchange_type_opened_t){.reads = reads(exchange), .bindings = true};
  // What comes as a parameter belongs to the plugin.
  exports_exchange_type_declaration_free(declaration);
  return true;
}

void exports_exchange_type_close(uint32_t id) {
  free(exchanges[id].header.ptr);
  free(exchanges[id].ranges);
  exchanges[id] = (exchange_t){0};
}

bool exports_exchange_type_bind(uint32_t id, exports_exchange_type_list_binding_t *bindings, routing_reads_t *ret, routing_refusal_t *err) {
  exchange_t *exchange = &exchanges[id];
  range_t *ranges = must(realloc(exchange->ranges, (exchange->count + bindings->len) * sizeof *ranges));
  exchange->ranges = ranges;
  bool sound = true;
  for (size_t i = 0; i < bindings->len; i++) {
    routing_binding_t *binding = &bindings->ptr[i];
    exports_exchange_type_list_field_t arguments = {binding->arguments.ptr, binding->arguments.len};
    range_t range = {binding->id, number(value_of(arguments, "from"), -INFINITY), number(value_of(arguments, "below"), INFINITY)};
    sound = sound && range.from < range.below;
    ranges[exchange->count + i] = range;
  }
  // Counted only when all are sound: a refusal leaves none of them behind.
  if (sound) {
    exchange->count += bindings->len;
    *ret = reads(exchange);
  } else {
    err->tag = ROUTING_REFUSAL_INVALID_ARGUMENT;
    plugin_string_dup(&err->val.invalid_argument.f0, "below");
    plugin_string_dup(&err->val.invalid_argument.f1, "it is not above 'from'");
  }
  exports_exchange_type_list_binding_free(bindings);
  return sound;
}

void exports_exchange_type_unbind(uint32_t id, exports_exchange_type_list_binding_id_t *ids, routing_reads_t *ret) {
  exchange_t *exchange = &exchanges[id];
  for (size_t i = 0; i < ids->len; i++) {
    for (size_t at = 0; at < exchange->count; at++) {
      if (exchange->ranges[at].id != ids->ptr[i]) continue;
      exchange->ranges[at] = exchange->ranges[--exchange->count];
      break;
    }
  }
  exports_exchange_type_list_binding_id_free(ids);
  *ret = reads(exchange);
}

void exports_exchange_type_route(uint32_t id, routing_message_t *message, exports_exchange_type_decision_t *ret) {
  exchange_t *exchange = &exchanges[id];
  // No comparison holds with NAN, so without a number there is no destination.
  double value = message->headers.len ? number(&message->headers.ptr[0].value, NAN) : NAN;
  uint64_t *to = must(malloc((exchange->count + 1) * sizeof *to));
  size_t count = 0;
  for (size_t i = 0; i < exchange->count; i++) {
    const range_t *range = &exchange->ranges[i];
    if (range->from <= value && value < range->below) to[count++] = range->id;
  }
  if (!count) {
    free(to);
    to = NULL;
  }
  ret->tag = EXPORTS_EXCHANGE_TYPE_DECISION_DELIVER;
  ret->val.deliver.ptr = to;
  ret->val.deliver.len = count;
  routing_message_free(message);
}
