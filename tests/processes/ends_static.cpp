// SPDX-License-Identifier: Apache-2.0
// A host whose engine is a static object: it returns from main() and does nothing else about it.
#include "actors/kvferry.hpp"

#include <csignal>
#include <cstring>
#include <iostream>
#include <optional>
#include <unistd.h>

namespace {

kvferry::runtime the_runtime;
std::optional<kvferry::worker> the_worker;

} // namespace

/// "runtime": static runtime; "worker": with a rank that still runs.
int main(int count, char** words) {
    ::alarm(30); // SIGALRM ends what hangs
    kvferry::worker_options options;
    options.instance = "static";
    options.layout.layers_per_stage = {1};
    auto started = the_runtime.start_worker(options);
    if (!started) {
        std::cerr << kvferry::describe(started.error()) << "\n";
        return 1;
    }
    if (count > 1 && std::strcmp(words[1], "worker") == 0)
        the_worker.emplace(std::move(*started));
    return 0;
}
