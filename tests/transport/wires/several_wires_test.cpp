// SPDX-License-Identifier: Apache-2.0
// Several wires in one fabric: which one a link takes, and that the whole keeps a wire's promises.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "transport/ucx/ucx_wire.hpp"
#include "transport/wires/several_wires.hpp"
#include "transport/wires/spawn_fabric.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

/// UCX behind a wire that no peer has.
struct joined_kit : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink);
};

namespace {

/// What a wire that leads nowhere was asked.
struct wire_calls {
    std::vector<std::string> addresses;
    int woken = 0;
    bool destroyed = false;
};

struct idle_connection final : wire_connection {
    void send(fabric_message, byte_view, byte_buffer, std::uint64_t) override {}
    bool send_from(fabric_message, byte_view, byte_view, std::uint64_t) override { return true; }
    void flush(std::uint64_t) override {}
    void close(bool) override {}
    wire_room room() override { return {}; }
};

class scripted_wire final : public wire {
public:
    scripted_wire(std::string address, std::string refusal, std::shared_ptr<wire_calls> log,
                  bool by_message = true)
        : address_(std::move(address)), refusal_(std::move(refusal)), log_(std::move(log)),
          by_message_(by_message) {}

    void start(wire_user&) override {}
    byte_buffer address() const override {
        const auto* bytes = reinterpret_cast<const caf::byte*>(address_.data());
        return {bytes, bytes + address_.size()};
    }
    std::string transports() const override { return "to " + address_; }
    std::string_view key_label() const override { return "scripted"; }
    bool by_message() const override { return by_message_; }
    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation, byte_view address,
                                                            endpoint_id) override {
        log_->addresses.emplace_back(reinterpret_cast<const char*>(address.data()), address.size());
        if (!refusal_.empty())
            return make_error(errc::dial_failed, refusal_);
        return std::unique_ptr<wire_connection>{std::make_unique<idle_connection>()};
    }
    std::vector<wire_event> take_events() override { return std::exchange(events_, {}); }
    void wake() override { ++log_->woken; }
    void destroy() noexcept override { log_->destroyed = true; }

private:
    std::string address_, refusal_;
    std::vector<wire_event> events_{{wire_event::kind::posted, endpoint_id{1}, 1}};
    std::shared_ptr<wire_calls> log_;
    bool by_message_;
};

named_wire scripted(std::string name, std::shared_ptr<wire_calls> log, std::string refusal = {},
                    bool by_message = true) {
    auto address = name + "!";
    return {std::move(name), std::make_unique<scripted_wire>(std::move(address), std::move(refusal),
                                                             std::move(log), by_message)};
}

std::unique_ptr<wire> join(named_wire first, named_wire second) {
    std::vector<named_wire> all;
    all.push_back(std::move(first));
    all.push_back(std::move(second));
    return join_wires(std::move(all));
}

} // namespace

fabric_actor joined_kit::spawn(int number, incarnation self, frame_sink_actor sink) {
    auto make = [this, number]() -> caf::expected<std::unique_ptr<wire>> {
        auto ucx = make_ucx_wire(loop(number));
        if (!ucx)
            return std::move(ucx.error());
        return join(scripted("only here " + std::to_string(number), std::make_shared<wire_calls>()),
                    {"ucx", std::move(*ucx)});
    };
    auto made = spawn_fabric(system(), loop(number),
                             {.self = self, .default_sink = sink, .bounds = {}}, make);
    REQUIRE_MESSAGE(made, describe(made.error()));
    return keep(number, *made);
}

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::joined_kit);

namespace kvferry::testing {
TEST_CASE_TEMPLATE_INVOKE(fabric_frames, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_put, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_keys, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_close, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_death, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_dial, joined_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_stop, joined_kit);
} // namespace kvferry::testing

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("several_wires: a link takes the first wire that both sides have and that connects") {
    auto first = std::make_shared<wire_calls>(), second = std::make_shared<wire_calls>();
    auto ours = join(scripted("ring", first), scripted("tcp", second));
    SUBCASE("both") {
        auto peer = join(scripted("tcp", std::make_shared<wire_calls>()),
                         scripted("ring", std::make_shared<wire_calls>()));
        REQUIRE(ours->connect({7}, peer->address(), {1}));
        CHECK(first->addresses == std::vector<std::string>{"ring!"});
        CHECK(second->addresses.empty());
    }
    SUBCASE("the peer lacks the first") {
        auto peer = join(scripted("ucx", std::make_shared<wire_calls>()),
                         scripted("tcp", std::make_shared<wire_calls>()));
        REQUIRE(ours->connect({7}, peer->address(), {1}));
        CHECK(second->addresses == std::vector<std::string>{"tcp!"});
    }
    SUBCASE("the first is refused") {
        auto refused = join(scripted("ring", first, "another machine"), scripted("tcp", second));
        REQUIRE(refused->connect({7}, ours->address(), {1}));
        CHECK(first->addresses.size() == 1);
        CHECK(second->addresses.size() == 1);
    }
    SUBCASE("none leads there: every reason is told") {
        auto refused = join(scripted("ring", first, "another machine"), scripted("ucx", second));
        auto made = refused->connect({7}, ours->address(), {1});
        REQUIRE_FALSE(made);
        CHECK(code_of(made.error()) == errc::dial_failed);
        CHECK(text_of(made.error())
              == "no wire leads to incarnation 7: ring: another machine; ucx: the peer has none");
    }
}

TEST_CASE(
    "several_wires: every truncation and every flipped byte of an address is refused by name") {
    auto log = std::make_shared<wire_calls>();
    auto ours = join(scripted("ring", log), scripted("tcp", log));
    const auto good = ours->address();
    const auto check = [&](const byte_buffer& bad) {
        auto made = ours->connect({7}, bad, {1});
        REQUIRE_FALSE(made);
        CHECK(code_of(made.error()) == errc::dial_failed);
    };
    for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
        check({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(bytes)});
    for (std::size_t at = 0; at < good.size(); ++at) {
        auto bad = good;
        bad[at] = caf::byte(static_cast<unsigned char>(bad[at]) ^ 0x20);
        check(bad);
    }
    CHECK(log->addresses.empty());
}

TEST_CASE("several_wires: the whole is by message when every part is; events, wakes and the end "
          "reach all") {
    auto log = std::make_shared<wire_calls>(), other = std::make_shared<wire_calls>();
    auto messages = join(scripted("ring", log), scripted("tcp", other));
    CHECK(messages->by_message());
    CHECK(messages->transports() == "to ring!; to tcp!");
    CHECK(messages->take_events().size() == 2);
    CHECK(messages->take_events().empty());
    messages->wake();
    messages->destroy();
    for (const auto& each : {log, other}) {
        CHECK(each->woken == 1);
        CHECK(each->destroyed);
    }
    CHECK_FALSE(join(scripted("ring", log), scripted("ucx", log, {}, false))->by_message());
}
