// SPDX-License-Identifier: Apache-2.0
// What a session tells its owner, and in how many messages.
#include "actors/shared/owner_news.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

#include <type_traits>
#include <vector>

using namespace kvferry;

namespace {

enum class said { begun, ended, retired, retired_with_begun, retired_with_end, all_at_once };

std::vector<said> told(owner_news& news) {
    std::vector<said> result;
    news.tell([&result]<class Message>(Message message) {
        if constexpr (std::is_same_v<Message, session_transferring>)
            result.push_back(said::begun);
        else if constexpr (std::is_same_v<Message, session_ended>)
            result.push_back(said::ended);
        else if (message.begun && message.ended)
            result.push_back(said::all_at_once);
        else
            result.push_back(message.begun   ? said::retired_with_begun
                             : message.ended ? said::retired_with_end
                                             : said::retired);
    });
    return result;
}

} // namespace

TEST_CASE("owner_news: a session that is over says all of its turn in one message") {
    owner_news news;
    news.add(session_transferring{{1}, {2}, 3});
    news.add(session_ended{{1}, {2}, make_error(errc::cancelled, "enough")});
    news.add(session_retired{{1}, {2}, {}});
    session_retired last;
    news.tell([&last]<class Message>(Message message) {
        if constexpr (std::is_same_v<Message, session_retired>)
            last = std::move(message);
        else
            FAIL("a message of its own");
    });
    REQUIRE(last.begun);
    CHECK(last.begun->context_dp_rank == 3);
    REQUIRE(last.ended);
    CHECK(last.ended->reason == errc::cancelled);
    CHECK(told(news).empty());
}

TEST_CASE("owner_news: a session that goes on says each thing once, in the order in which they "
          "happen") {
    owner_news news;
    CHECK(told(news).empty());
    news.add(session_ended{});
    news.add(session_transferring{});
    CHECK(told(news) == std::vector{said::begun, said::ended});
    news.add(session_retired{});
    CHECK(told(news) == std::vector{said::retired});
}
