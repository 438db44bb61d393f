// SPDX-License-Identifier: Apache-2.0
// A program that makes its first error before main() and never starts an actor system.
#include "messages/errors.hpp"

#include <cstdio>

namespace {

const auto early = kvferry::make_error(kvferry::errc::layout_mismatch, "heads: 3 against 2");

} // namespace

int main() {
    const auto late = kvferry::add_context(early, "rank 0");
    std::puts(kvferry::describe(late).c_str());
    return kvferry::code_of(late) == kvferry::errc::layout_mismatch ? 0 : 1;
}
