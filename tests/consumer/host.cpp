// SPDX-License-Identifier: Apache-2.0
// The smallest host: starts a rank, says where it is found, stops it.
#include <actors/kvferry.hpp>
#include <iostream>

int main() {
    kvferry::runtime runtime;
    auto worker =
        runtime.start_worker({.instance = "consumer", .layout = {.layers_per_stage = {1}}});
    std::cout << (worker ? worker->info_endpoint() : kvferry::describe(worker.error())) << "\n";
    return worker && worker->stop(std::chrono::seconds{5}) ? 0 : 1;
}
