// SPDX-License-Identifier: Apache-2.0
// A rank and the directory: names of instances, and the listing of its own.
#include "actors/discovery/directory_reader.hpp"
#include "actors/discovery/directory_writer.hpp"
#include "actors/discovery/named_instances.hpp"
#include "actors/host/ask_blocking.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/version.hpp"

#include <caf/send.hpp>

#include <type_traits>
#include <utility>

namespace kvferry {

caf::error worker::parts::check_directory() {
    options.directory = from_environment(std::move(options.directory));
    if (options.directory.endpoints.empty())
        return {};
    auto problem = check(options.directory);
    return problem ? add_context(problem, "worker_options.directory") : caf::error{};
}

/// Reader and writer wait for etcd, each on a thread of its own.
caf::error worker::parts::make_directory() {
    if (options.directory.endpoints.empty() || options.world)
        return {};
    if (auto problem = step("directory"))
        return problem;
    auto for_reading = etcd_directory::make(options.directory);
    if (!for_reading)
        return add_context(for_reading.error(), "worker_options.directory");
    reader =
        spawn_directory_reader(*system, {std::make_shared<etcd_directory>(std::move(*for_reading)),
                                         options.bounds.instances_known_max});
    instance_listing own;
    if (io.server) {
        auto for_writing = etcd_directory::make(options.directory);
        if (!for_writing)
            return add_context(for_writing.error(), "worker_options.directory");
        writer = spawn_directory_writer(
            *system,
            {std::make_shared<etcd_directory>(std::move(*for_writing)), options.directory.lease});
        own.name = identity.instance;
        own.endpoint = io.advertised;
        own.role = options.role;
        own.release = version();
    }
    names = spawn_named_instances(*system, placement{}, {io.info_link, reader, writer, own});
    io.info_link = names;
    return {};
}

void worker::parts::say_draining() const {
    if (writer)
        tell_from_outside(names, describe_instance{std::nullopt, true});
}

/// Nobody waits for them: they touch no memory of the rank, and end with etcd's answer. The actor
/// system outlives them.
void worker::parts::end_directory() {
    const auto end = [](auto& which) {
        caf::anon_send_exit(which, caf::exit_reason::kill);
        which = std::decay_t<decltype(which)>{};
    };
    end(names);
    end(reader);
    end(writer);
}

caf::error worker::set_role(instance_role role) {
    if (!parts_)
        return parts::moved_away();
    auto open = parts_->calls->visit_and_wait();
    if (!open)
        return std::move(open.error());
    if (!parts_->names)
        return make_error(errc::unsupported, "the rank has no directory: worker_options.directory");
    return ask_blocking_for_success(*parts_->system, parts_->names,
                                    describe_instance{role, std::nullopt},
                                    parts_->options.bounds.info_deadline);
}

} // namespace kvferry
