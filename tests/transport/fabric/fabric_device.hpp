// SPDX-License-Identifier: Apache-2.0
// A device as the target's fabric sees it, played by the test: it copies at once, or when told to,
// or fails.
#pragma once

#include "messages/local/local_messages.hpp"
#include "tests/transport/fabric/fabric_probe.hpp"
#include "transport/copy/copy_io.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <doctest/doctest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace kvferry::testing {

class fabric_device {
public:
    /// `chunks` of staging memory as long as a fabric with default limits makes them.
    fabric_device(caf::actor_system& system, std::size_t chunks)
        : staging_(chunks * limits{}.staging_piece_bytes_max + 16),
          actor_(system.spawn([shared = shared_]() -> device_actor::behavior_type {
              return {
                  [shared](const start_copy& command) { shared->begin(command); },
                  [](const cancel_transfer&) {},
                  [](const stop_io&) {},
                  [](const export_device_region&) -> caf::result<device_region_exported> {
                      return make_error(errc::unsupported, "not asked for here");
                  },
                  [shared](const pin_host_region&) -> caf::result<void> {
                      ++shared->pins;
                      if (shared->refuses_pins)
                          return make_error(errc::cuda_failed, "cudaHostRegister: out of memory");
                      return {};
                  },
                  [shared](const map_peer_regions& asked) {
                      ++shared->mappings;
                      peer_regions_mapped result;
                      if (!shared->refuses_mappings)
                          result.mapped = asked.by_host;
                      return result;
                  },
                  [](const unmap_region&) {},
              };
          })) {}

    ~fabric_device() { caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown); }

    /// For register_region.
    const device_actor& actor() const { return actor_; }
    std::span<std::byte> staging() {
        const auto at = reinterpret_cast<std::uint64_t>(staging_.data());
        return {staging_.data() + (16 - at % 16) % 16, staging_.size() - 16};
    }

    void refuse_pins() { shared_->refuses_pins = true; }
    void refuse_mappings() { shared_->refuses_mappings = true; }
    int pins() const { return shared_->pins; }
    int mappings() const { return shared_->mappings; }

    /// Copies wait from now on.
    void hold() {
        std::lock_guard lock{shared_->mutex};
        shared_->holding = true;
    }

    /// Comes back when so many copies wait.
    void await(std::size_t count) {
        std::unique_lock lock{shared_->mutex};
        REQUIRE(shared_->changed.wait_for(lock, fabric_patience,
                                          [&] { return shared_->held.size() >= count; }));
    }

    std::size_t waiting() {
        std::lock_guard lock{shared_->mutex};
        return shared_->held.size();
    }

    /// Ends the copy that has waited longest: it has happened, or it has not.
    void end_one(agent_result result = agent_result::success) {
        await(1);
        start_copy command;
        {
            std::lock_guard lock{shared_->mutex};
            command = shared_->held.front();
            shared_->held.erase(shared_->held.begin());
        }
        shared::end(command, result);
    }

    /// Copies what waits, and what comes from now on.
    void release() {
        std::vector<start_copy> all;
        {
            std::lock_guard lock{shared_->mutex};
            shared_->holding = false;
            all.swap(shared_->held);
        }
        for (const auto& command : all)
            shared::end(command, agent_result::success);
    }

private:
    struct shared {
        std::mutex mutex;
        std::condition_variable changed;
        bool holding = false;
        std::vector<start_copy> held;
        std::atomic<int> pins = 0;
        std::atomic<int> mappings = 0;
        std::atomic<bool> refuses_pins = false;
        std::atomic<bool> refuses_mappings = false;

        void begin(const start_copy& command) {
            {
                std::lock_guard lock{mutex};
                if (holding) {
                    held.push_back(command);
                    changed.notify_all();
                    return;
                }
            }
            end(command, agent_result::success);
        }

        static void end(const start_copy& command, agent_result result) {
            transfer_done done;
            done.id = command.id;
            done.result = result;
            if (result == agent_result::success)
                copy_now(command.job);
            else
                done.error = make_error(errc::cuda_failed, "the test's device says so");
            caf::anon_send(command.reply_to, done);
        }
    };

    std::shared_ptr<shared> shared_ = std::make_shared<shared>();
    std::vector<std::byte> staging_;
    device_actor actor_;
};

} // namespace kvferry::testing
