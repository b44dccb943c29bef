//! The JSON side of the protocol: newline-separated objects, zero values left out.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

/// For `skip_serializing_if`: zero, false.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as the zero value, as clients of other languages may send it.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Payloads: a JSON value kept as the bytes in which it was written.
pub(super) mod raw {
    use super::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
    use serde_json::value::RawValue;

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_slice(bytes).map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Bytes::from(Box::<str>::from(value).into_boxed_bytes().into_vec()))
    }
}
