// SPDX-License-Identifier: Apache-2.0
// A place in a thread of ours where a test makes it wait.
#pragma once

#include <string_view>

namespace kvferry {

/// While it lives, whoever comes to the place of this name waits there. One at a time in a process;
/// for tests of what others may not do meanwhile.
class held_call {
public:
    explicit held_call(const char* place) noexcept;
    held_call(const held_call&) = delete;
    held_call& operator=(const held_call&) = delete;
    ~held_call();

    bool has_somebody() const;
};

/// Asked at each place that tests hold.
void wait_if_held(std::string_view place) noexcept;

} // namespace kvferry
