// An interceptor in C: `require-header`.
//
// Rejects a message that lacks the header named by the argument `header`: a publisher that asked for
// confirms gets a nack.

#include "generated/interceptor-plugin/plugin.h"

#include <stdlib.h>
#include <string.h>

// "the header NAME is missing", by the number that the host gave the attachment.
static char **reasons;
static size_t reason_count;

static void *must(void *allocated) {
  if (!allocated) __builtin_trap();
  return allocated;
}

void exports_interceptor_describe(exports_interceptor_description_t *ret) {
  exports_interceptor_interceptor_description_t *interceptor = must(calloc(1, sizeof *interceptor));
  plugin_string_dup(&interceptor->name, "require-header");
  plugin_string_dup(&interceptor->summary, "Rejects messages without a header");
  interceptor->points.ptr = must(malloc(1));
  interceptor->points.ptr[0] = EXPORTS_INTERCEPTOR_POINT_PUBLISH;
  interceptor->points.len = 1;
  routing_argument_description_t *argument = must(calloc(1, sizeof *argument));
  plugin_string_dup(&argument->name, "header");
  plugin_string_dup(&argument->summary, "The header that must be there");
  argument->kind = ROUTING_ARGUMENT_KIND_TEXT;
  argument->required = true;
  interceptor->arguments.ptr = argument;
  interceptor->arguments.len = 1;
  interceptor->pure = true;
  plugin_string_dup(&ret->version, "1.0.0");
  ret->interceptors.ptr = interceptor;
  ret->interceptors.len = 1;
}

bool exports_interceptor_open(uint32_t id, exports_interceptor_attachment_t *declaration, routing_reads_t *ret, routing_refusal_t *err) {
  (void)err;
  // The host has checked that it is there, and a text. Others are let through.
  plugin_string_t header = {NULL, 0};
  for (size_t i = 0; i < declaration->arguments.len; i++) {
    routing_field_t *field = &declaration->arguments.ptr[i];
    if (field->name.len == 6 && !memcmp(field->name.ptr, "header", 6)) header = field->value.val.text;
  }
  if (id >= reason_count) {
    reasons = must(realloc(reasons, (id + 1) * sizeof *reasons));
    memset(reasons + reason_count, 0, (id + 1 - reason_count) * sizeof *reasons);
    reason_count = id + 1;
  }
  char *reason = must(malloc(header.len + sizeof "the header  is missing"));
  strcpy(reason, "the header ");
  strncat(reason, (char *)header.ptr, header.len);
  strcat(reason, " is missing");
  reasons[id] = reason;

  // That header alone is read; the caller frees what is returned, so its name is a copy.
  plugin_list_u8_t *name = must(malloc(sizeof *name));
  name->ptr = memcpy(must(malloc(header.len + 1)), header.ptr, header.len);
  name->len = header.len;
  *ret = (routing_reads_t){.headers = {.tag = ROUTING_HEADER_SELECTION_NAMED, .val.named = {name, 1}}};
  exports_interceptor_attachment_free(declaration);
  return true;
}

void exports_interceptor_close(uint32_t id) {
  free(reasons[id]);
  reasons[id] = NULL;
}

void exports_interceptor_intercept(uint32_t id, routing_message_t *message, exports_interceptor_verdict_t *ret) {
  if (message->headers.len) {
    ret->tag = EXPORTS_INTERCEPTOR_VERDICT_PASS;
  } else {
    ret->tag = EXPORTS_INTERCEPTOR_VERDICT_REJECT;
    plugin_string_dup(&ret->val.reject, reasons[id]);
  }
  routing_message_free(message);
}
