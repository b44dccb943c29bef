//! Tags filters: which publications of a channel a subscriber wants.

use serde::{Deserialize, Serialize};

use super::json::{nullable, nullable_list};

/// One node of a filter: a comparison when `op` is empty, else `and`, `or` or `not` over `nodes`.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterNode {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub op: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub key: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub cmp: String,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub val: String,
    #[prost(string, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub vals: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub nodes: Vec<FilterNode>,
}

#[derive(Debug)]
pub struct Filter;
impl Filter {
    pub fn matches(&self, _t: &std::collections::BTreeMap<String, String>) -> bool {
        true
    }
}
#[derive(Debug)]
pub struct FilterError;
impl FilterNode {
    pub fn compile(&self) -> Result<Filter, FilterError> {
        Ok(Filter)
    }
}
