// SPDX-License-Identifier: Apache-2.0
// The device of the target's fabric, played by the test. It copies at once, or when it is told to,
// or fails.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/devices.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"
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
    /// The staging memory has `chunks` chunks of the default size.
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
                  [](const await_event&) {},
              };
          })) {}

    ~fabric_device() { caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown); }

    /// The device to give to register_region.
    const device_actor& actor() const { return actor_; }
    std::span<std::byte> staging() {
        const auto at = reinterpret_cast<std::uint64_t>(staging_.data());
        return {staging_.data() + (16 - at % 16) % 16, staging_.size() - 16};
    }

    void refuse_pins() { shared_->refuses_pins = true; }
    void refuse_mappings() { shared_->refuses_mappings = true; }
    int pins() const { return shared_->pins; }
    int mappings() const { return shared_->mappings; }

    /// From now on copies wait.
    void hold() {
        std::lock_guard lock{shared_->mutex};
        shared_->holding = true;
    }

    /// Returns when this many copies wait.
    void await(std::size_t count) {
        std::unique_lock lock{shared_->mutex};
        REQUIRE(shared_->changed.wait_for(lock, fabric_patience,
                                          [&] { return shared_->held.size() >= count; }));
    }

    std::size_t waiting() {
        std::lock_guard lock{shared_->mutex};
        return shared_->held.size();
    }

    /// Ends the oldest waiting copy, with its bytes copied on success only.
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

    /// Runs the waiting copies, and from now on copies at once.
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
