// SPDX-License-Identifier: Apache-2.0
// The first bytes by which an end without a secret and one with it know each other.
#pragma once

#include <array>

namespace kvferry::marks {

/// A record of TLS: its type (20 to 23), then the major version.
constexpr bool begins_a_record(unsigned char type, unsigned char version) {
    return type >= 0x14 && type <= 0x17 && version == 0x03;
}

/// What an end with a secret answers to one that speaks plain: a fatal alert of TLS.
inline constexpr std::array<unsigned char, 7> secret_wanted{0x15, 0x03, 0x03, 0x00,
                                                            0x02, 0x02, 0x28};
/// What an end without a secret answers to one that has it: no record of TLS.
inline constexpr std::array<unsigned char, 4> plain_here{};

} // namespace kvferry::marks
