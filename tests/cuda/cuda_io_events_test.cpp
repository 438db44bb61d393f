// SPDX-License-Identifier: Apache-2.0
// Events of the host that somebody waits for without a copy, on the host twin of a device.
#include "cuda/cuda_io.hpp"
#include "cuda/device/host_copy_device.hpp"
#include "messages/local/devices.hpp"
#include "tests/transport/copy/copy_conformance.hpp"

#include <atomic>
#include <memory>
#include <optional>
#include <string>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct twin_kit : copy_loop {
    explicit twin_kit(cuda_io_options options = {},
                      std::unique_ptr<copy_device> twin = std::make_unique<host_copy_device>()) {
        auto made = spawn_cuda_io(system(), loop(), std::move(twin), options);
        REQUIRE_MESSAGE(made, describe(made.error()));
        device = *made;
        keep(*made);
    }
    device_actor device;
};

/// Says of every event that a stream capture owns it.
struct capturing_device : host_copy_device {
    caf::expected<bool> has_happened(void*) override {
        return make_error(errc::cuda_failed, "cudaErrorCapturedEvent");
    }
};

/// What an actor hears of one event.
class listener {
public:
    listener(twin_kit& kit, void* event) : self_(kit.system()) {
        answer_.emplace(self_->request(kit.device, copy_patience, await_event{event, wanted_}));
    }

    /// Blocks until there is an answer.
    errc answer() {
        auto result = errc::none;
        answer_->receive([] {}, [&](const caf::error& reason) { result = code_of(reason); });
        return result;
    }
    void lose_interest() { wanted_.reset(); }

private:
    using response = decltype(std::declval<caf::scoped_actor&>()->request(
        std::declval<device_actor&>(), copy_patience, std::declval<await_event>()));

    std::shared_ptr<const void> wanted_ = std::make_shared<const int>();
    caf::scoped_actor self_;
    std::optional<response> answer_;
};

} // namespace

TEST_CASE("cuda_io: an awaited event is answered when it happens, and no copy waits for it") {
    twin_kit kit;
    std::atomic<bool> first{false}, second{true};
    listener late{kit, &first};
    listener early{kit, &second};
    CHECK(early.answer() == errc::none);
    const auto sample = shuffled_fragments(4, 512);
    host_memory source{sample.source_bytes}, target{sample.target_bytes};
    copy_probe probe{kit};
    const auto id = probe.start(sample.job(source.address(), target.address()));
    check_success(probe.next(), id, 2048);
    first = true;
    CHECK(late.answer() == errc::none);
}

TEST_CASE("cuda_io: an event that nobody waits for any more is not looked at again") {
    twin_kit kit;
    auto event = std::make_unique<std::atomic<bool>>(false);
    listener gone{kit, event.get()};
    gone.lose_interest();
    CHECK(gone.answer() == errc::cancelled);
    event.reset(); // whoever has the answer may destroy it
    std::atomic<bool> happened{true};
    CHECK(listener{kit, &happened}.answer() == errc::none);
}

TEST_CASE("cuda_io: an event that can never be looked at is refused, and the device goes on") {
    twin_kit kit{{}, std::make_unique<capturing_device>()};
    std::atomic<bool> event{false};
    CHECK(listener{kit, &event}.answer() == errc::cuda_failed);
    CHECK(listener{kit, &event}.answer() == errc::cuda_failed); // not: it is lost
}

TEST_CASE("cuda_io: more awaited events than the limit are refused by name, a stop ends the rest") {
    cuda_io_options options;
    options.events_awaited_max = 2;
    twin_kit kit{options};
    std::atomic<bool> never{false};
    listener first{kit, &never}, second{kit, &never}, third{kit, &never};
    CHECK(third.answer() == errc::limit_exceeded);
    copy_probe probe{kit};
    probe.send_stop();
    CHECK_FALSE(probe.await_stopped());
    CHECK(first.answer() == errc::stopped);
    CHECK(second.answer() == errc::stopped);
    kit.forget();
}
