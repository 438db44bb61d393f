// SPDX-License-Identifier: Apache-2.0
// Without a test this is one look.
#include "transport/loop/held_call.hpp"

#include <atomic>

namespace kvferry {

namespace {

std::atomic<const char*> held{nullptr};
std::atomic<int> waiting{0};

} // namespace

held_call::held_call(const char* place) noexcept {
    held = place;
}

held_call::~held_call() {
    held = nullptr;
    held.notify_all();
}

bool held_call::has_somebody() const {
    return waiting > 0;
}

void wait_if_held(std::string_view place) noexcept {
    const auto* name = held.load();
    if (!name || place != name)
        return;
    ++waiting;
    held.wait(name);
    --waiting;
}

} // namespace kvferry
