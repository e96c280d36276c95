module example.com/plimsoll/lib

go 1.22
