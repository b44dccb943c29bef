// Between the SDK and the socket: every command and reply as it goes over the wire, one line of text each.

/** A transport that does what `transport` does, and shows `saw(way, text)` what goes `out` and comes `in`. */
export function watched(transport, saw) {
  const lines = (way, frame) => frame.split('\n').filter((line) => line !== '').forEach((line) => saw(way, line));
  return (endpoint, listener) => {
    const socket = transport(endpoint, {
      ...listener,
      received(frame) {
        lines('in', frame);
        listener.received(frame);
      },
    });
    return {
      close: () => socket.close(),
      send(frame) {
        lines('out', frame);
        socket.send(frame);
      },
    };
  };
}
