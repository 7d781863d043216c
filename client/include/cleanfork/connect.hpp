// launch(), connect() and attach(): how a client comes to be. <cleanfork/client.hpp> has all of it.
#pragma once

#include <cleanfork/client.hpp>
