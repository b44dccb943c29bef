//! The gateway's verbs: hub, broker, presence and channels together.
