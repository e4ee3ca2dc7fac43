//! Label values put under the names their metric defines.

use std::fmt;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

use super::defs::Def;

/// The labels of one series, ready to be written.
pub(super) struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [&'a str],
}

impl<'a> Labels<'a> {
    /// `values` in the order of `def.labels`.
    pub(super) fn of(def: &Def, values: &'a [&'a str]) -> Self {
        debug_assert_eq!(def.labels.len(), values.len(), "{}", def.name);
        Self { names: def.labels, values }
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.values) {
            (*name, *value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
