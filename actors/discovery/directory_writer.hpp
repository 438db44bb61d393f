// SPDX-License-Identifier: Apache-2.0
// Keeps the own instance listed in etcd, on a thread of its own, which may wait. A lease that was
// lost is taken anew; while etcd is away it is asked again and again, and nobody waits for that.
#pragma once

#include "actors/discovery/etcd_directory.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/local/directory.hpp"

#include <chrono>
#include <memory>
#include <optional>

namespace kvferry {

class directory_writer_state {
public:
    static inline constexpr const char* name = "directory_writer";

    struct dependencies {
        std::shared_ptr<etcd_directory> directory;
        std::chrono::seconds lease{10};
    };

    directory_writer_state(directory_writer_actor::pointer self, dependencies);
    /// The listing goes at once.
    ~directory_writer_state();

    directory_writer_actor::behavior_type make_behavior();

private:
    void on_list(const list_instance&);
    void on_tick(const deadline_tick&);
    void keep();
    /// Between two renewals.
    std::chrono::milliseconds pace() const { return std::chrono::milliseconds{with_.lease} / 3; }
    caf::error renew_or_take();
    caf::error write();

    directory_writer_actor::pointer self_;
    dependencies with_;
    std::optional<instance_listing> wanted_;
    std::optional<instance_listing> written_;
    std::optional<etcd_directory::lease_id> lease_;
    time_point renewed_at_{};
    bool away_ = false;
    tick_timer timer_;
};

directory_writer_actor spawn_directory_writer(caf::actor_system&,
                                              directory_writer_state::dependencies);

} // namespace kvferry
