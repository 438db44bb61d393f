// SPDX-License-Identifier: Apache-2.0
// The actor system that a runtime owns.
#include "actors/host/runtime.hpp"

#include "actors/host/configure.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

namespace kvferry {

struct runtime::parts {
    struct prepared_config : caf::actor_system_config {
        prepared_config() { configure(*this); }
    };

    prepared_config config;
    caf::actor_system system{config};
};

runtime::runtime() {
    init_types();
    parts_ = std::make_unique<parts>();
}

runtime::~runtime() = default;

caf::actor_system& runtime::system() {
    return parts_->system;
}

caf::expected<worker> runtime::start_worker(worker_options options) {
    return worker::start(system(), std::move(options));
}

} // namespace kvferry
