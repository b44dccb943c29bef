// The bytes on the wire, read without the SDK's codec: what it hides is what some tests are about.

/** The replies of a JSON frame as objects. */
export function jsonReplies(frame) {
  return frame.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

/** The replies of a Protobuf frame, in the shape of the JSON ones as far as tests look. */
export function protobufReplies(frame) {
  const replies = [];
  for (let at = 0; at < frame.length; ) {
    const [length, start] = varint(frame, at);
    replies.push(reply(fields(frame.subarray(start, start + length))));
    at = start + length;
  }
  return replies;
}

function reply(from) {
  return dropUndefined({
    id: number(from, 1),
    push: message(from, 4, push),
    connect: message(from, 5, () => ({})),
    subscribe: message(from, 6, subscribeResult),
  });
}

function push(from) {
  return dropUndefined({
    id: number(from, 1),
    channel: text(from, 2),
    pub: message(from, 4, publication),
    join: message(from, 5, () => ({})),
    leave: message(from, 6, () => ({})),
  });
}

function publication(from) {
  return dropUndefined({ data: from.get(4), offset: number(from, 6), delta: number(from, 8) && true });
}

function subscribeResult(from) {
  return dropUndefined({
    recovered: number(from, 8) && true,
    delta: number(from, 13) && true,
    id: number(from, 14),
    publications: from.all(7).map((bytes) => publication(fields(bytes))),
  });
}

function number(from, field) {
  return from.get(field);
}

function text(from, field) {
  return from.get(field)?.toString();
}

function message(from, field, read) {
  const bytes = from.get(field);
  return bytes && read(fields(bytes));
}

function dropUndefined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

/** Field number -> values of an encoded message: numbers, or bytes of what has a length. */
function fields(bytes) {
  const found = new Map();
  for (let at = 0; at < bytes.length; ) {
    const [tag, afterTag] = varint(bytes, at);
    const [value, next] = fieldValue(bytes, afterTag, tag & 7);
    const field = tag >>> 3;
    found.set(field, [...(found.get(field) ?? []), value]);
    at = next;
  }
  return { get: (field) => found.get(field)?.at(-1), all: (field) => found.get(field) ?? [] };
}

function fieldValue(bytes, at, wireType) {
  if (wireType === 0) {
    return varint(bytes, at);
  }
  if (wireType === 2) {
    const [length, start] = varint(bytes, at);
    return [bytes.subarray(start, start + length), start + length];
  }
  throw new Error(`the protocol has no fields of wire type ${wireType}`);
}

function varint(bytes, at) {
  let value = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) {
      throw new Error('the frame ends inside a number');
    }
    value += (byte & 127) * scale;
    if (byte < 128) {
      return [value, at];
    }
  }
}
