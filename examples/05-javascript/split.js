// An exchange type in JavaScript: `x-split`.
//
// Each binding gets the share of the messages that its argument `percent` says, and a message goes to
// one binding at most. Which one follows from its routing key, so messages of one key stay together:
// with the user's number as the key, a user does not see the new version now and the old one then.
// What the shares leave over is unroutable.

const READS = {
  routingKey: true,
  headers: { tag: "none" },
  properties: [],
  body: null,
  publisher: false,
  exchange: false,
  queue: false,
  reason: false,
};

// By the number that the host gave the exchange: its bindings, in the order of their slices.
const exchanges = new Map();

// Names and keys are bytes; this tells them apart whether they are UTF-8 or not.
const latin1 = (bytes) => String.fromCharCode(...bytes);

function argument(fields, name) {
  return fields.find((field) => latin1(field.name) === name)?.value.val;
}

// FNV-1a with a finish that mixes the high bits into the low ones.
function hash(bytes) {
  let h = 0x811c9dc5;
  for (const byte of bytes) h = Math.imul(h ^ byte, 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

function shareOf(binding) {
  const percent = argument(binding.arguments, "percent");
  if (percent < 0 || percent > 100) {
    throw { tag: "invalid-argument", val: ["percent", `${percent} is not between 0 and 100`] };
  }
  // Instances must agree on the order of the slices, and get the bindings in any order.
  const order = `${binding.destination.tag} ${latin1(binding.destination.val)} ${latin1(binding.routingKey)}`;
  return { id: binding.id, percent, order };
}

export const exchangeType = {
  describe() {
    const percent = { name: "percent", kind: "integer", required: true, summary: "This binding's share" };
    const type = {
      name: "x-split",
      summary: "By percentages, messages of one routing key together",
      arguments: [],
      bindingArguments: [percent],
      pure: true,
      // A new binding moves the slices of others.
      independentBindings: false,
      singleWriter: false,
      stage: null,
    };
    return { version: "1.0.0", exchangeTypes: [type] };
  },

  open(exchange, _declaration) {
    exchanges.set(exchange, []);
    return { reads: READS, inner: null, bindings: true };
  },

  close(exchange) {
    exchanges.delete(exchange);
  },

  bind(exchange, bindings) {
    const shares = [...exchanges.get(exchange), ...bindings.map(shareOf)];
    const sum = shares.reduce((sum, share) => sum + share.percent, 0);
    // What is thrown is the error; nothing has changed then.
    if (sum > 100) throw { tag: "other", val: `the bindings would add up to ${sum} percent` };
    shares.sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0));
    exchanges.set(exchange, shares);
    return READS;
  },

  unbind(exchange, ids) {
    exchanges.set(exchange, exchanges.get(exchange).filter((share) => !ids.includes(share.id)));
    return READS;
  },

  route(exchange, message) {
    let point = hash(message.routingKey) % 100;
    for (const share of exchanges.get(exchange)) {
      if (point < share.percent) return { tag: "deliver", val: [share.id] };
      point -= share.percent;
    }
    return { tag: "deliver", val: [] };
  },
};
