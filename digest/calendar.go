package digest

import (
	"fmt"
	"time"
)

const (
	secondMicroseconds = 1_000_000
	dayMicroseconds    = 24 * 60 * 60 * secondMicroseconds

	// Years have up to seven digits: PostgreSQL's dates end with the year 5874897.
	minDays = -3653144162 // -9999999-01-01
	maxDays = 3651705471  // 9999999-12-31

	// Times of day have up to three digits of hours: MySQL's end at 838:59:59.
	maxTime = 1000*60*60*secondMicroseconds - 1
)

// daysSince1970 counts the days to a date of the Gregorian calendar, in which the year 0 is 1 BC.
//
// It counts from a 1st of March, so that a leap day is the last of its year, and in eras of 400 years, which all have
// 146097 days.
func daysSince1970(year, month, day int) (days int64, ok bool) {
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	if month < 3 {
		year--
		month += 12
	}
	era := year / 400
	if year < era*400 {
		era--
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return int64(era)*146097 + int64(yearOfEra*365+yearOfEra/4-yearOfEra/100+dayOfYear) - 719468, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// cutDate reads YYYY-MM-DD, with up to seven digits of years, off the start of b.
func cutDate(b []byte) (year, month, day int, rest []byte, ok bool) {
	n := countDigits(b)
	if n < 4 || n > 7 || len(b) < n+6 || b[n] != '-' || b[n+3] != '-' {
		return 0, 0, 0, b, false
	}
	for _, c := range b[:n] {
		year = year*10 + int(c-'0')
	}
	month, ok1 := twoDigits(b[n+1:])
	day, ok2 := twoDigits(b[n+4:])
	return year, month, day, b[n+6:], ok1 && ok2
}

// cutClock reads HH:MM:SS, with up to six digits of fraction and two or three of hours, off the start of b.
func cutClock(b []byte) (us int64, rest []byte, ok bool) {
	n := countDigits(b)
	if n < 2 || n > 3 || len(b) < n+6 || b[n] != ':' || b[n+3] != ':' {
		return 0, b, false
	}
	var hour int
	for _, c := range b[:n] {
		hour = hour*10 + int(c-'0')
	}
	minute, ok1 := twoDigits(b[n+1:])
	second, ok2 := twoDigits(b[n+4:])
	if !ok1 || !ok2 || minute > 59 || second > 59 {
		return 0, b, false
	}
	fraction, rest, ok := cutFraction(b[n+6:])
	return int64((hour*60+minute)*60+second)*secondMicroseconds + fraction, rest, ok
}

// cutFraction reads nothing, or a point and one to six digits, as microseconds.
func cutFraction(b []byte) (us int64, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' {
		return 0, b, true
	}
	n := countDigits(b[1:])
	if n < 1 || n > 6 {
		return 0, b, false
	}
	for i := range 6 {
		us *= 10
		if i < n {
			us += int64(b[1+i] - '0')
		}
	}
	return us, b[1+n:], true
}

func twoDigits(b []byte) (v int, ok bool) {
	if countDigits(b[:2]) != 2 {
		return 0, false
	}
	return int(b[0]-'0')*10 + int(b[1]-'0'), true
}

// formatDate is ISO 8601: a year that has not four digits carries a sign, and the year 0 is 1 BC.
func formatDate(days int64) string {
	year, month, day := time.Unix(days*24*60*60, 0).UTC().Date()
	format := "%04d-%02d-%02d"
	if year < 0 || year > 9999 {
		format = "%+05d-%02d-%02d"
	}
	return fmt.Sprintf(format, year, month, day)
}

// formatClock is the inverse of cutClock, with a minus for a negative time.
func formatClock(us int64) string {
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	seconds, fraction := us/secondMicroseconds, us%secondMicroseconds
	text := fmt.Sprintf("%s%02d:%02d:%02d", sign, seconds/3600, seconds/60%60, seconds%60)
	if fraction == 0 {
		return text
	}
	digits := fmt.Sprintf(".%06d", fraction)
	for digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return text + digits
}

// parseISODate is the inverse of formatDate.
func parseISODate(b []byte) (days int64, rest []byte, ok bool) {
	sign := 1
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	year, month, day, rest, ok := cutDate(b)
	if !ok {
		return 0, b, false
	}
	days, ok = daysSince1970(sign*year, month, day)
	return days, rest, ok
}
