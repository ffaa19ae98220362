// An interceptor in JavaScript: `mask-header`.
//
// Replaces a text header by stars and its last characters, so that consumers (or, on publish, queues)
// see `****1234` instead of a card's number. Arguments of the attachment: `header`, and `keep`, how many
// characters stay (4 if it is not there).

// By the number that the host gave the attachment.
const attachments = new Map();

const utf8 = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));

function argument(fields, name) {
  return fields.find((field) => String.fromCharCode(...field.name) === name)?.value.val;
}

export const interceptor = {
  describe() {
    const mask = {
      name: "mask-header",
      summary: "Hides all but the last characters of a header",
      points: ["publish", "deliver"],
      arguments: [
        { name: "header", kind: "text", required: true, summary: "The header's name" },
        { name: "keep", kind: "integer", required: false, summary: "How many characters stay; 4" },
      ],
      pure: true,
    };
    return { version: "1.0.0", interceptors: [mask] };
  },

  open(attachment, declaration) {
    const name = utf8(argument(declaration.arguments, "header"));
    const keep = argument(declaration.arguments, "keep") ?? 4;
    if (keep < 0) throw { tag: "invalid-argument", val: ["keep", `${keep} is below 0`] };
    attachments.set(attachment, keep);
    return {
      routingKey: false,
      headers: { tag: "named", val: [name] },
      properties: [],
      body: null,
      publisher: false,
      exchange: false,
      queue: false,
      reason: false,
    };
  },

  close(attachment) {
    attachments.delete(attachment);
  },

  intercept(attachment, message) {
    const [header] = message.headers;
    if (header?.value.tag !== "text") return { tag: "pass" };
    const characters = [...header.value.val];
    const hidden = Math.max(0, characters.length - attachments.get(attachment));
    const masked = "*".repeat(hidden) + characters.slice(hidden).join("");
    return {
      tag: "patch",
      val: [{ tag: "set-header", val: { name: header.name, value: { tag: "text", val: masked } } }],
    };
  },
};
