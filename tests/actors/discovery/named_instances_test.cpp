// SPDX-License-Identifier: Apache-2.0
// Names in front of an info_link: what is asked where, under which deadline, and what is listed
// when.
#include "actors/discovery/named_instances.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/sample_ranks.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

struct fixture {
    virtual_system vs;
    stub<info_link_actor> servers{vs};
    stub<directory_reader_actor> reader{vs};
    stub<directory_writer_actor> writer{vs};
    named_instances_actor names;

    explicit fixture(bool lists = true) {
        servers.answer<fetch_instance_info>([](const fetch_instance_info&) {
            return instance_info{{}, {sample_rank("prefill-3", 0, 1)}};
        });
        instance_listing own;
        own.name = "decode-0";
        own.endpoint = "10.0.0.9:4711";
        own.role = instance_role::generation;
        names = vs.track(
            spawn_named_instances(vs.system(), {},
                                  {servers.handle(), reader.handle(),
                                   lists ? writer.handle() : directory_writer_actor{}, own}));
    }

    void publish() {
        auto self = sample_rank("decode-0", 0, 1);
        self.fingerprint = "llama";
        self.protocol = protocol_version;
        CHECK(vs.ask_and_run<void>(names, register_with_instance{"10.0.0.9:4711", self, 1s}).ok());
    }
    std::vector<instance_listing> listed() const {
        std::vector<instance_listing> result;
        for (const auto& each : writer.received<list_instance>())
            result.push_back(each.listing);
        return result;
    }
};

} // namespace

TEST_CASE("named_instances: a name is looked up, then its endpoint is asked, under one deadline") {
    fixture test;
    test.reader.answer<find_instance>([&](const find_instance& asked) {
        CHECK(asked.name == "prefill-3");
        CHECK(asked.until == test.vs.now() + 5s);
        instance_found found;
        found.listing.endpoint = "10.0.0.7:4711";
        return found;
    });
    auto answer =
        test.vs.ask_and_run<instance_info>(test.names, fetch_instance_info{"etcd:prefill-3", 5s});
    REQUIRE(answer.ok());
    CHECK(answer.value().ranks.size() == 1);
    const auto asked = test.servers.received<fetch_instance_info>();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].endpoint == "10.0.0.7:4711");
    CHECK(asked[0].deadline <= 5s);
}

TEST_CASE("named_instances: an endpoint is asked without a word to the directory") {
    fixture test;
    CHECK(
        test.vs.ask_and_run<instance_info>(test.names, fetch_instance_info{"10.0.0.7:1", 5s}).ok());
    CHECK(test.reader.count() == 0);
    CHECK(test.servers.received<fetch_instance_info>()[0].endpoint == "10.0.0.7:1");
}

TEST_CASE("named_instances: what the directory says of a missing name comes through") {
    fixture test;
    test.reader.answer<find_instance>([](const find_instance&) {
        return make_error(errc::dial_failed, "etcd at http://x:1: nobody is there");
    });
    auto answer =
        test.vs.ask_and_run<instance_info>(test.names, fetch_instance_info{"etcd:prefill-3", 5s});
    REQUIRE(answer.failed());
    CHECK(code_of(answer.error()) == errc::dial_failed);
    CHECK(contains(text_of(answer.error()), "etcd at http://x:1"));
    CHECK(test.servers.received<fetch_instance_info>().empty());
}

TEST_CASE("named_instances: an instance is listed once it is published, and again only when it has "
          "changed") {
    fixture test;
    CHECK(test.listed().empty());
    test.publish();
    test.publish(); // it introduces itself again and again
    REQUIRE(test.listed().size() == 1);
    const auto first = test.listed()[0];
    CHECK(first.name == "decode-0");
    CHECK(first.endpoint == "10.0.0.9:4711");
    CHECK(first.role == instance_role::generation);
    CHECK(first.fingerprint == "llama");
    CHECK(first.layout_digest != 0);
    CHECK(first.ranks == 1);
    CHECK(first.protocol == protocol_version);
    CHECK_FALSE(first.draining);
    test.vs.tell_and_run(test.names, describe_instance{instance_role::context, {}});
    test.vs.tell_and_run(test.names, describe_instance{{}, true});
    REQUIRE(test.listed().size() == 3);
    CHECK(test.listed()[1].role == instance_role::context);
    CHECK(test.listed()[2].role == instance_role::context);
    CHECK(test.listed()[2].draining);
}

TEST_CASE(
    "named_instances: what is said before the rank is published stands in its first listing") {
    fixture test;
    test.vs.tell_and_run(test.names, describe_instance{instance_role::any, true});
    CHECK(test.listed().empty());
    test.publish();
    REQUIRE(test.listed().size() == 1);
    CHECK(test.listed()[0].role == instance_role::any);
    CHECK(test.listed()[0].draining);
}

TEST_CASE("named_instances: only rank 0 of a served instance is listed") {
    fixture test{false};
    test.publish();
    auto refused = test.vs.ask_and_run<void>(test.names, describe_instance{{}, true});
    REQUIRE(refused.failed());
    CHECK(code_of(refused.error()) == errc::unsupported);
    CHECK(test.writer.count() == 0);
}
