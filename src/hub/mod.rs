//! Who is connected to this node, and fan-out to them. Never awaits.
