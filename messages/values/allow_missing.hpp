// SPDX-License-Identifier: Apache-2.0
// What a receiver's host accepts to be left unwritten.
#pragma once

#include <compare>

namespace kvferry {

/// Parts of the receiver's cache that no rank of the context has. Without consent such a transfer
/// is refused with layout_mismatch before any page is exposed; with it these parts stay as they
/// are.
struct allow_missing {
    /// Global layers that only the receiver has (speculative layers, say).
    bool layers = false;
    /// Roles that only the receiver has in layers that both sides have.
    bool roles = false;

    friend auto operator<=>(const allow_missing&, const allow_missing&) = default;
};

} // namespace kvferry
