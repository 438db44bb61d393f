// SPDX-License-Identifier: Apache-2.0
// The settings of CAF that kvferry depends on, each with its reason.
#include "actors/host/configure.hpp"

#include "messages/init_types.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/detail/meta_object.hpp>
#include <caf/io/middleman.hpp>

#include <string>

namespace kvferry {

namespace {

template <class T>
void set_default(caf::actor_system_config& config, caf::string_view key, T value) {
    if (!caf::get_if(&config.content, key))
        config.set(key, std::move(value));
}

} // namespace

void init_types() {
    static const bool once = [] {
        init_message_types();
        caf::io::middleman::init_global_meta_objects();
        return true;
    }();
    static_cast<void>(once);
}

void configure(caf::actor_system_config& config) {
    init_types();
    // Loaded once: CAF does not refuse a second load. The mark is not a registered option, so a
    // config file cannot set it.
    if (!caf::get_or(config.content, "kvferry.configured", false))
        config.load<caf::io::middleman>();
    caf::put(config.content, "kvferry.configured", true);
    // Otherwise idle workers sleep 500 times 50 us, and new work cannot wake them.
    set_default(config, "caf.work-stealing.moderate-poll-attempts", 0);
    // Loops with their own threads do most of the work; the scheduler runs the rest.
    set_default(config, "caf.scheduler.max-threads", 2);
    // Errors reach the host as values; CAF's own log is off unless the host turns it on.
    set_default(config, "caf.logger.console.verbosity", "quiet");
    set_default(config, "caf.logger.file.verbosity", "quiet");
}

caf::error check_prepared(caf::actor_system& system) {
    const auto refuse = [](const std::string& what, const char* remedy) {
        return make_error(errc::unsupported, "this actor system was not prepared ({}): {}", what,
                          remedy);
    };
    constexpr auto prepare = "call kvferry::configure(config) before it is made";
    if (!caf::detail::global_meta_object(caf::type_id_v<errc>))
        return refuse("it does not know kvferry's types", prepare);
    if (!system.has_middleman())
        return refuse("CAF's network layer is not loaded", prepare);
    const auto& config = content(system.config());
    if (caf::get_or(config, "caf.scheduler.policy", "stealing") == "testing")
        return refuse("its scheduler runs only when a test asks",
                      "leave caf.scheduler.policy alone");
    // The host's own actors may block a thread, and rank infos must be answered meanwhile.
    if (caf::get_or(config, "caf.scheduler.max-threads", std::size_t{2}) < 2)
        return refuse("its scheduler has one thread, which actors of the host may block",
                      "set caf.scheduler.max-threads to 2 or more");
    return {};
}

} // namespace kvferry
